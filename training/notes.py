"""The documents of methods, ``docs/methods/<name>.md``, as pages: the part of Markdown that they use.

Headings, paragraphs, lists, tables, fenced code, quotes of code, emphasis, links and pictures. All text is escaped;
links lead to web addresses, and pictures are those that lie beside the document.
"""

import re
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path

from django.conf import settings
from django.utils.safestring import SafeString, mark_safe

FOLDER = "docs/methods"
PICTURES = {".svg": "image/svg+xml", ".png": "image/png"}
TABLE_RULE = re.compile(r"\|?[\s:|-]+\|[\s:|-]*")
ITEM = re.compile(r"(\s*)([-*]|\d+\.)\s+(.*)")
INLINE: tuple[tuple[str, str], ...] = (
    (r"\*\*(.+?)\*\*", r"<strong>\1</strong>"),
    (r"(?<![\w*])\*([^\s*][^*]*)\*(?!\w)", r"<em>\1</em>"),
    (r"\[([^\]]+)\]\((https?://[^)\s]+)\)", r'<a href="\2" rel="noopener">\1</a>'),
    (r"\[([^\]]+)\]\([^)]*\)", r"\1"),
)


def folder() -> Path:
    return Path(settings.BASE_DIR) / FOLDER


def document(name: str) -> Path | None:
    """The document of a method; None where there is none."""
    found = folder() / f"{name}.md"
    return found if re.fullmatch(r"[\w-]+", name) and found.is_file() else None


def picture(name: str) -> Path | None:
    """A picture beside the documents; None for anything else."""
    found = folder() / name
    return found if re.fullmatch(r"[\w-]+\.\w+", name) and found.suffix in PICTURES and found.is_file() else None


def page(text: str, address: Callable[[str], str]) -> SafeString:
    """A document as HTML. address: where a picture is served."""
    return mark_safe("\n".join(_blocks(text.splitlines(), address)))  # noqa: S308  # every text in it is escaped


def _blocks(lines: list[str], address: Callable[[str], str]) -> Iterator[str]:
    at = 0
    while at < len(lines):
        line = lines[at]
        if line.startswith("```"):
            end = next((k for k in range(at + 1, len(lines)) if lines[k].startswith("```")), len(lines))
            yield f"<pre><code>{escape(chr(10).join(lines[at + 1 : end]))}</code></pre>"
            at = end + 1
        elif not line.strip():
            at += 1
        else:
            end = next(
                (k for k in range(at, len(lines)) if not lines[k].strip() or lines[k].startswith("```")), len(lines)
            )
            yield from _block(lines[at:end], address)
            at = end


def _block(lines: list[str], address: Callable[[str], str]) -> Iterator[str]:
    """Lines without an empty one among them."""
    heading = re.match(r"(#{1,4})\s+(.*)", lines[0])
    if heading:
        level = max(len(heading[1]), 2)  # the page has a title of its own
        yield f"<h{level}>{_inline(heading[2], address)}</h{level}>"
        if lines[1:]:
            yield from _block(lines[1:], address)
    elif len(lines) > 1 and "|" in lines[0] and TABLE_RULE.fullmatch(lines[1].strip()):
        yield _table(lines, address)
    elif ITEM.match(lines[0]):
        yield _list(lines, address)
    else:
        start = next((at for at, line in enumerate(lines[1:], 1) if ITEM.match(line) and not line[0].isspace()), None)
        yield f"<p>{_inline(' '.join(lines[:start]), address)}</p>"
        if start:
            yield _list(lines[start:], address)


def _list(lines: list[str], address: Callable[[str], str]) -> str:
    items: list[str] = []
    for line in lines:
        item = ITEM.match(line)
        if item:
            items.append(item[3])
        else:
            items[-1] += f" {line.strip()}"
    first = ITEM.match(lines[0])
    kind = "ol" if first and first[2][0].isdigit() else "ul"
    return f"<{kind}>{''.join(f'<li>{_inline(item, address)}</li>' for item in items)}</{kind}>"


def _table(lines: list[str], address: Callable[[str], str]) -> str:
    right = [cell.strip().endswith(":") for cell in _cells(lines[1])]

    def row(name: str, line: str) -> str:
        cells = [
            f"<{name}{' class=num' if at < len(right) and right[at] else ''}>{_inline(cell, address)}</{name}>"
            for at, cell in enumerate(_cells(line))
        ]
        return f"<tr>{''.join(cells)}</tr>"

    body = "".join(row("td", line) for line in lines[2:])
    head = row("th", lines[0])
    return f'<div class="table-wrap"><table class="table"><thead>{head}</thead><tbody>{body}</tbody></table></div>'


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def _inline(text: str, address: Callable[[str], str]) -> str:
    """Code first: nothing in it means anything."""
    parts = re.split(r"(`[^`]+`)", text)
    return "".join(
        f"<code>{escape(part[1:-1])}</code>" if len(part) > 2 and part[0] == part[-1] == "`" else _words(part, address)
        for part in parts
    )


def _words(text: str, address: Callable[[str], str]) -> str:
    """Text without code, escaped; pictures, links and emphasis in it."""

    def shown(found: re.Match[str]) -> str:
        name = found[2].rsplit("/", 1)[-1]
        return f'<img src="{escape(address(name))}" alt="{found[1]}">' if picture(name) else found[1]

    said = re.sub(r"!\[([^\]]*)\]\(([^)\s]+)\)", shown, escape(text))
    for pattern, form in INLINE:
        said = re.sub(pattern, form, said)
    return said
