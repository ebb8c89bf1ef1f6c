"""The documents of methods as pages."""

from pathlib import Path

import pytest
from django.conf import LazySettings
from django.test import Client

from accounts.models import User
from training import notes
from training.engine.registry import Method

TEXT = """# Sketches <b>

An *idea* in **bold**, `code *as it is* <i>`, a [paper](https://arxiv.org/abs/0000.00000), a [file](../formats.md)
and [evil](javascript:alert(1)).

1. First
   goes on
2. Second

* one
* two

| preset | accuracy |
| :-- | --: |
| small | .5 & |

```
manage.py train sketch  # <here>
```

![Curve](sketch.svg)
![Secret](../../secret.svg)
"""


@pytest.fixture
def documents(tmp_path: Path, settings: LazySettings) -> Path:
    settings.BASE_DIR = tmp_path
    folder = tmp_path / "docs" / "methods"
    folder.mkdir(parents=True)
    (folder / "sketch.md").write_text(TEXT)
    (folder / "sketch.svg").write_text("<svg/>")
    (tmp_path / "secret.svg").write_text("<svg/>")
    return folder


def test_what_documents_use_becomes_html(documents: Path) -> None:
    said = notes.page(TEXT, lambda name: f"/pictures/{name}")
    for words in (
        "<h2>Sketches &lt;b&gt;</h2>", "An <em>idea</em> in <strong>bold</strong>",
        "<code>code *as it is* &lt;i&gt;</code>", '<a href="https://arxiv.org/abs/0000.00000" rel="noopener">paper</a>',
        "a file", "<ol><li>First goes on</li><li>Second</li></ol>", "<ul><li>one</li><li>two</li></ul>",
        "<th>preset</th><th class=num>accuracy</th>", "<td class=num>.5 &amp;</td>",
        "<pre><code>manage.py train sketch  # &lt;here&gt;</code></pre>",
        '<img src="/pictures/sketch.svg" alt="Curve">',
    ):  # fmt: skip
        assert words in said, words
    assert "javascript" not in said
    assert "secret" not in said


@pytest.mark.django_db
def test_a_method_leads_to_its_document(client: Client, admin: User, sketch: Method, documents: Path) -> None:
    client.force_login(admin)
    assert "/training/methods/sketch/notes/" in client.get("/training/methods/sketch/").content.decode()
    assert "<strong>bold</strong>" in client.get("/training/methods/sketch/notes/").content.decode()
    assert client.get("/training/pictures/sketch.svg")["Content-Type"] == "image/svg+xml"
    for name in ("sketch.md", "..%2F..%2Fsecret.svg", "secret.svg"):
        assert client.get(f"/training/pictures/{name}").status_code == 404, name
    (documents / "sketch.md").unlink()
    assert client.get("/training/methods/sketch/notes/").status_code == 404
    assert "/notes/" not in client.get("/training/methods/sketch/").content.decode()


@pytest.mark.django_db
def test_every_document_of_the_product_can_be_read(client: Client, admin: User) -> None:
    client.force_login(admin)
    for document in notes.folder().glob("*.md"):
        if client.get(f"/training/methods/{document.stem}/").status_code == 200:
            said = client.get(f"/training/methods/{document.stem}/notes/").content.decode()
            assert "<h2>" in said
            assert "```" not in said
