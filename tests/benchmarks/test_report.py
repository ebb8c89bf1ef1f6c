from datetime import date
from pathlib import Path

import pytest

from benchmarks.report import machine_facts, markdown_table, write_section


def test_a_section_is_replaced_and_its_neighbours_stay(tmp_path: Path) -> None:
    path = tmp_path / "docs" / "benchmarks.md"
    write_section("selection", "first", path=path)
    write_section("scoring", "other", path=path)
    write_section("selection", "second", path=path, measured_on=date(2026, 1, 2))
    text = path.read_text()
    assert "first" not in text
    assert text.index("second") < text.index("other")
    assert "Measured 2026-01-02" in text
    assert text.count("<!-- selection:start -->") == text.count("<!-- selection:end -->") == 1


def test_broken_markers_are_refused_and_the_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "benchmarks.md"
    for broken in ("<!-- a:start -->\ntext", "<!-- a:end --> <!-- a:start -->"):
        path.write_text(broken)
        with pytest.raises(ValueError, match='"a"'):
            write_section("a", "new", path=path)
        assert path.read_text() == broken
    with pytest.raises(ValueError, match="small letters"):
        write_section("No Good", "new", path=path)


def test_machine_facts_name_cores_processor_memory_and_libraries() -> None:
    facts = machine_facts(["numpy", "no-such-library"])
    assert int(facts["cores"]) >= 1
    assert {"processor", "memory", "Python", "numpy"} <= set(facts)
    assert "no-such-library" not in facts


def test_table_rows_have_the_header_width() -> None:
    lines = markdown_table(["way", "s"], [["a", 1.5], ["b", 2]]).splitlines()
    assert [line.count("|") for line in lines] == [3] * 4
