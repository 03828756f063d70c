"""Tables and numbers are read strictly: no row and no digit is lost in silence."""

from pathlib import Path

import pytest

from longigen import BadData
from longigen.data.tables import has_decimal_comma, is_missing, parse_number, read_table


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1.0), ("-1.5", -1.5), ("+.5", 0.5), ("2.", 2.0), ("2e3", 2000.0), ("1E-2", 0.01)],
)
def test_numbers(text: str, value: float) -> None:
    assert parse_number(text) == value


@pytest.mark.parametrize(
    "text", ["", "1_2", "0,5", "1 000", "٣", "inf", "nan", "Infinity", "1e999", "0x10", " 1", "1-2"]
)
def test_what_is_no_number(text: str) -> None:
    assert parse_number(text) is None
    assert has_decimal_comma(text) == (text == "0,5")


def test_missing_values() -> None:
    assert all(map(is_missing, ("", "n/a", "N/A", "NaN", "na")))
    assert not is_missing("0")


def cells(path: Path, content: str | bytes) -> list[tuple[int, list[str]]]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return [(line, list(row.values())) for line, row in read_table(path).rows]


def test_a_stray_quote_in_a_tsv_has_no_meaning(tmp_path: Path) -> None:
    text = 'id\tnote\n1\t"moved\n2\t5" slices\n3\t"said ""no"""\n4\t"\n'
    expected = [(2, ["1", '"moved']), (3, ["2", '5" slices']), (4, ["3", 'said "no"']), (5, ["4", '"'])]
    assert cells(tmp_path / "t.tsv", text) == expected


def test_a_stray_quote_in_a_csv_is_a_finding_of_its_line(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    assert cells(path, 'id,note\n1,"moved\n2,"a, b"\n3,"x"\n') == [(3, ["2", "a, b"]), (4, ["3", "x"])]
    (finding,) = read_table(path).findings
    assert str(finding).startswith(f"{path}, line 2 has a quote that is not closed on its line; remove")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_and_line_ends(encoding: str, end: str, tmp_path: Path) -> None:
    text = end.join(("id, name ", "1,é", ",", "2,b\x85c"))
    assert cells(tmp_path / "t.csv", text.encode(encoding)) == [(2, ["1", "é"]), (4, ["2", "b\x85c"])]
    assert read_table(tmp_path / "t.csv").columns == ("id", "name")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.csv", b"a;b\n1;0,5\n", "separated by semicolons; separate them by commas, or by tabs in a file named .tsv"),
        ("t.csv", b"a\tb\n", "separated by tabs"),
        ("t.TSV", b"a,b\n", "separated by commas; separate its columns by tabs"),
        ("t.csv", b"a,b,a\n", "two columns 'a'"),
        ("t.csv", b"a,b,\n", "or one without a name"),
        ("t.csv", b"a,b\n\xe9,1\n", "cannot be read"),
        ("t.csv", "a,b\n1,2\n".encode("utf-16-be"), "it has NUL characters, as UTF-16 without a byte-order mark"),
        ("t.tsv", b"/annex/objects/MD5E-s1--c.tsv\n", "is a pointer of git-annex"),
    ],
)
def test_a_table_that_is_refused(name: str, content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadData) as caught:
        read_table(tmp_path / name)
    assert words in str(caught.value)


@pytest.mark.parametrize("name", ["t.csv", "t.tsv"])
@pytest.mark.parametrize(
    ("lines", "broken"),
    [
        (['"a', 'b",1', "c,2"], [2, 3]),
        (["c,2", 'd,"a', 'b"'], [3, 4]),
        (['"a', "and", 'b",1', "c,2"], [2, 3, 4]),
    ],
)
def test_no_part_of_a_row_with_a_line_break_is_read(
    name: str, lines: list[str], broken: list[int], tmp_path: Path
) -> None:
    separator = "," if name == "t.csv" else "\t"
    text = "\n".join(["id,note", *lines]).replace(",", separator)
    assert [row for _, row in cells(tmp_path / name, text)] == [["c", "2"]]
    findings = read_table(tmp_path / name).findings
    assert [finding.source for finding in findings] == [f"{tmp_path / name}, line {line}" for line in broken]
    assert {finding.problem for finding in findings} == {"is a part of a row with a line break in a cell"}


def test_rows_of_another_length_are_findings(tmp_path: Path) -> None:
    assert cells(tmp_path / "t.csv", "a,b\n1\n1,2,3\n1,2\n") == [(4, ["1", "2"])]
    assert [f.problem.split(" cells")[0] for f in read_table(tmp_path / "t.csv").findings] == ["has 1", "has 3"]
