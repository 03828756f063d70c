"""Tables in their formats: marks only where the gain's interval leaves out 0, and no line too long."""

from typing import Any

from longigen.components.metric import metric_notes
from longigen.evaluation.metrics import load_metrics
from longigen.evaluation.result_table import WIDTH, ResultTable, Tabular
from longigen.evaluation.tables import benchmark_tables, evaluation_table, row_records
from longigen.hub.metrics_file import COPIES, COPY_LAST, MODEL, ResultRow
from longigen.utils.intervals import Summary

METRICS = load_metrics(["psnr", "nrmse"])


def row(method: str, db: Summary, error: Summary, **gains: Summary) -> ResultRow:
    return ResultRow("full", method, 9, {"psnr": db, "nrmse": error}, gains)


COPIED = row(COPY_LAST, Summary(20.0, 19.0, 21.0, 9), Summary(0.1, 0.09, 0.11, 9))
BETTER = row(
    "better", Summary(22.0, 21.0, 23.0, 9), Summary(0.08, 0.07, 0.09, 9),
    psnr=Summary(2.0, 1.0, 3.0, 9), nrmse=Summary(-0.02, -0.03, -0.01, 9),
)  # fmt: skip
WORSE = row(
    "worse", Summary(19.0, 18.0, 20.0, 9), Summary(0.1, 0.09, 0.11, 9),
    psnr=Summary(-1.0, -2.0, -0.5, 9), nrmse=Summary(0.0, -0.01, 0.01, 9),
)  # fmt: skip


def test_footnotes_say_what_sets_series_and_features_are_of() -> None:
    sets, series, features = metric_notes(load_metrics(["slope-error", "psnr", "kid", "flicker"]))
    assert sets == "kid: of all visits together [95 % jackknife interval over subjects]"
    assert series.startswith(
        "slope-error, flicker: of the visits that are generated together and the last given one, 3"
    )
    assert features == "kid: random resnet18, seed 0, stage 1 averaged, 3 planes"


def test_marks_follow_the_direction_of_each_metric() -> None:
    (table,) = benchmark_tables([COPIED, BETTER, WORSE], METRICS)
    block = table.text()
    lines = {line.split()[0]: line for line in block.splitlines() if line.strip() and line.split()[0].isalpha()}
    assert lines["better"].count("▲") == 2  # more PSNR and less NRMSE
    assert lines["worse"].count("▼") == 1  # of NRMSE the interval holds 0
    assert "▲" not in lines["worse"]
    assert max(map(len, block.splitlines())) <= WIDTH


def test_an_evaluation_stands_beside_copy_last() -> None:
    made = ResultRow("full", MODEL, 9, BETTER.values, BETTER.gains)
    table = evaluation_table([COPIED, made], METRICS, "title\nprotocol 123").text()
    assert table.splitlines()[:2] == ["title", "protocol 123"]
    (line,) = [line for line in table.splitlines() if "psnr ↑" in line]
    cells = " ".join(line.partition("psnr ↑")[2].split())
    assert cells == "20.00 22.00 [21.00, 23.00] +2.0000 [+1.0000, +3.0000]"


def test_blurred_copies_stand_beside_copy_last_and_no_line_is_too_long() -> None:
    metrics = {"change-correlation": METRICS["psnr"], "nrmse": METRICS["nrmse"]}
    low = dict.fromkeys(metrics, Summary(-0.1234, -0.2345, -0.1111, 9))
    rows = [ResultRow("missing", name, 9, low, low) for name in (*COPIES, MODEL, "model, mean of 8")]
    table = evaluation_table(rows, metrics, "title\nprotocol 123", samples=8).text()
    assert max(map(len, table.splitlines())) <= WIDTH
    line = next(line for line in table.splitlines() if "missing" in line)
    assert " ".join(line.split()).startswith("missing change-correlation ↑ -0.1234 -0.1234 -0.1234 -0.1234 [-0.2345")
    assert "…" not in table
    assert "blurred: copy-last smoothed by a Gaussian" in table


def test_a_table_says_over_how_many_subjects_its_means_are() -> None:
    def table(subjects: int, fewer: int) -> str:
        summary = Summary.of([20.0 + place for place in range(subjects)])
        values = {"psnr": summary, "nrmse": Summary.of([0.1 + place for place in range(fewer)])}
        rows = [ResultRow("full", name, 9, values, values) for name in (COPY_LAST, MODEL)]
        assert all("nan" not in block.text() for block in benchmark_tables(rows, METRICS))
        return evaluation_table(rows, METRICS, "title").text()

    assert "means over subjects, n = 9 [95 % t interval" in table(9, 9)
    assert "means over subjects, n = 7 to 9 [95 % t interval" in table(9, 7)
    assert "nrmse, n=7 ↓" in table(9, 7)
    assert "n = 2; no interval below 3" in table(2, 2)


def test_a_table_that_is_too_wide_is_split_by_columns() -> None:
    metrics = {"change-correlation": METRICS["psnr"], "nrmse": METRICS["nrmse"]}
    low = dict.fromkeys(metrics, Summary(-0.1234, -0.2345, -0.1111, 9))
    rows = [ResultRow("missing", name, 9, low, low) for name in (*COPIES, MODEL)]
    wide, narrow = (evaluation_table(rows, metrics, "title").text(width) for width in (WIDTH, 80))
    assert max(map(len, narrow.splitlines())) <= 80
    label = "change-correlation ↑"
    cells, *others = (
        [word for line in table.splitlines() if label in line for word in line.partition(label)[2].split()]
        for table in (wide, narrow)
    )
    assert others == [cells]
    many = {f"metric-{place}": METRICS["psnr"] for place in range(9)}
    rows = [ResultRow("full", name, 9, dict.fromkeys(many, low["nrmse"]), {}) for name in COPIES]
    (table,) = benchmark_tables(rows, many)
    text = table.text(80)
    assert max(map(len, text.splitlines())) <= 80
    assert all(text.count(f"{name} ↑") == 1 for name in many)
    assert text.count("setting full") == text.count("copy-last blurred 1") > 1


class Shown(Tabular):
    """The rows above, in tables with prose before them."""

    @property
    def blocks(self) -> list[ResultTable | str]:
        return ["a | b\nc", *benchmark_tables([COPIED, BETTER, WORSE], METRICS)]

    @property
    def records(self) -> list[dict[str, Any]]:
        return row_records([COPIED, BETTER])


def test_markdown_has_one_line_for_each_row() -> None:
    lines = Shown().to_markdown().splitlines()
    assert lines[:5] == ["a | b  ", "c", "", "| setting full | psnr ↑ | nrmse ↓ |", "|---|--:|--:|"]
    assert lines[6] == "| better | 22.00 ▲ [21.00, 23.00] | 0.0800 ▲ [0.0700, 0.0900] |"
    table = ResultTable(["a|b", "c"], [["1", "2"], None, ["3", "4"]], title="of\ntwo", notes=["a note", "another"])
    assert table.markdown() == ("of  \ntwo\n\n| a\\|b | c |\n|---|--:|\n| 1 | 2 |\n| 3 | 4 |\n\n- a note\n- another")


def test_latex_escapes_what_text_cannot_have() -> None:
    table = ResultTable(
        ["a_b", "↑"], [["50 %", "-0.1 [-0.2, 1e-3]"], None, ["x & y", "▲"], None], title="t", notes=["n"]
    )
    lines = table.latex().splitlines()
    assert lines[1:-2] == [
        r"\caption{t}",
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"a\_b & $\uparrow$ \\",
        r"\midrule",
        r"50 \% & $-$0.1 [$-$0.2, 1e-3] \\",
        r"\midrule",
        r"x \& y & $\blacktriangle$ \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]
    assert Shown().to_latex().startswith("% needs \\usepackage{booktabs,amssymb}\n\na | b c")


def test_csv_has_one_line_for_each_row_and_metric() -> None:
    head, first, *_, last = Shown().to_csv().splitlines()
    assert head == "setting,method,metric,visits,mean,low,high,subjects,gain_mean,gain_low,gain_high"
    assert first == "full,copy-last,psnr,9,20.0,19.0,21.0,9,,,"
    assert last == "full,better,nrmse,9,0.08,0.07,0.09,9,-0.02,-0.03,-0.01"
