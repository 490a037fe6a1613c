"""Whatever a notebook holds, its page in formgrader runs nothing, sends nothing, and covers nothing."""

from __future__ import annotations

import base64

import nbformat
import pytest
from bs4 import BeautifulSoup
from nbconvert.exporters import HTMLExporter
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output, new_raw_cell
from nbgrader.server_extensions.formgrader import handlers
from traitlets.config import Config

from autograder.classroom import nbgrader_settings, pages

RUN = "fetch('/api/kernels')"
HTML = (
    f"<script>{RUN}</script>",
    f"<ScRiPt\n>{RUN}</sCrIpT>",
    f'<img src=x onerror="{RUN}">',
    f'<svg onload="{RUN}"><script>{RUN}</script></svg>',
    f'<iframe srcdoc="<script>{RUN}</script>"></iframe>',
    "<iframe src='javascript:alert(1)'></iframe>",
    "<a href='javascript:alert(1)'>here</a>",
    "<a href=' java\nscript:alert(1)'>here</a>",
    "<a href='data:text/html,<script>1</script>'>here</a>",
    "<form action='/formgrader/api/grade/1'><input name=manual_score value=9><button>ok</button></form>",
    "<input class='score' id='fold-test'>",
    "<button class='btn full-credit'>Full credit</button>",
    "<span class='full-credit' id='why-comment'>look</span>",
    "<div style='position:fixed;top:0;left:0;width:100%;height:100%;z-index:9'>cover</div>",
    "<div style='margin-top:-900px'>cover</div>",
    "<div style=\"background:url('http://evil/x')\">x</div>",
    "<style>@import 'http://evil/x.css';</style>",
    "<link rel=stylesheet href=http://evil/x.css>",
    "<base href='http://evil/'>",
    "<meta http-equiv=refresh content='0;url=http://evil'>",
    "<object data='data:text/html,x'></object><embed src='x'>",
    "<img src='http://evil/who-looks.png'>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror=alert(1)&gt;'>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<a href='evil.html'>my plot</a>",
    "<a href='/formgrader/submissions/1/'>my plot</a>",
    "<a href='//evil/x'>my plot</a>",
    "<details open ontoggle=alert(1)><summary>x</summary></details>",
)
MARKDOWN = (
    *HTML,
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "![x](javascript:alert(1))",
    "<javascript:alert(1)>",
    "`<script>` in code\n\n```\n<script>1</script>\n```\n\n<script>alert(1)</script>",
    "[x]: javascript:alert(1)\n\n[x]",
    "$\\href{javascript:alert(1)}{x}$",
)


def page(*cells, clean: bool = True) -> BeautifulSoup:
    """The cells as formgrader shows them: its template, with the course's settings. clean: outputs, as in grading."""
    config = Config({"HTMLExporter": pages.SAFE_EXPORT})
    exporter = HTMLExporter(config=config, template_name="formgrade", extra_template_basedirs=[handlers.template_path])
    pages.mark_scripts(exporter, "from-the-template")
    resources = {
        "base_url": "", "index": 0, "total": 1, "submission_id": "s", "notebook_id": "n", "assignment_id": "a",
        "student": "eve", "first_name": "", "last_name": "", "notebook_path": "p",
    }  # fmt: skip
    notebook = nbformat.from_dict(new_notebook(cells=list(cells)))
    if clean:
        pages.clean_outputs(notebook)
    return BeautifulSoup(exporter.from_notebook_node(notebook, resources)[0], "html.parser")


@pytest.fixture(scope="module")
def ours() -> set[str]:
    return {str(tag) for tag in page().find_all("script")}


def check(shown: BeautifulSoup, ours: set[str]) -> None:
    scripts = shown.find_all("script")
    assert {str(tag) for tag in scripts} == ours
    assert all(tag["nonce"] == "from-the-template" for tag in scripts), "a script of formgrader's own would not run"
    body = shown.find(id="notebook-container")
    forbidden = "script iframe form input button object embed style link base meta svg math noscript".split()
    own = [tag for tag in body.find_all(forbidden) if "nbgrader_cell" not in str(tag.parent.get("class"))]
    assert own == [], own
    for tag in body.find_all(True):
        for name, value in tag.attrs.items():
            words = " ".join(value) if isinstance(value, list) else str(value)
            assert not name.startswith("on"), tag
            if name == "href":
                assert words.startswith(("http", "mailto:", "#")), tag
            if name == "src":
                assert words.startswith("data:image/"), tag
            if name == "style":
                assert not {"position", "margin", "margin-top", "z-index", "background", "url"} & set(
                    words.replace("(", " ").replace(":", " ").replace(";", " ").split()
                ), tag
            if name in ("class", "id"):
                assert not {"full-credit", "score", "fold-test", "why-comment", "comment"} & set(words.split()), tag


@pytest.mark.parametrize("html", HTML, ids=range(len(HTML)))
def test_an_output_of_html_runs_nothing(html, ours):
    isolated = new_output("display_data", data={"text/html": html}, metadata={"text/html": {"isolated": True}})
    plain = new_output("execute_result", data={"text/html": [html], "text/plain": "x"})
    check(page(new_code_cell("1", outputs=[isolated, plain])), ours)
    check(page(new_code_cell("1", outputs=[plain]), clean=False), ours)  # the export alone is a wall, too


@pytest.mark.parametrize("source", MARKDOWN, ids=range(len(MARKDOWN)))
def test_a_text_cell_runs_nothing(source, ours):
    raw = new_raw_cell(source)
    raw.metadata["raw_mimetype"] = "text/html"
    check(page(new_markdown_cell(source), raw), ours)


@pytest.mark.parametrize(
    "data",
    [
        {"application/javascript": RUN},
        {"text/javascript": RUN},
        {"image/svg+xml": f"<svg onload='{RUN}'/>"},
        {"text/markdown": f"<script>{RUN}</script>"},
        {"text/latex": f"$\\href{{javascript:{RUN}}}{{x}}$"},
        {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}},
        {"application/vnd.plotly.v1+json": {}},
        {"application/json": {"a": "<script>"}},
        {"image/png": "x' onerror='alert(1)"},
        {"image/png": base64.b64encode(b"<svg onload=alert(1)>").decode()},
    ],
    ids=lambda data: next(iter(data)),
)
def test_a_type_that_can_run_is_not_kept(data, ours):
    cell = new_code_cell("1", outputs=[new_output("display_data", data=data)])
    check(page(cell), ours)
    notebook = new_notebook(cells=[cell])
    pages.clean_outputs(notebook)
    assert set(notebook.cells[0].outputs[0].data) == {"text/plain"}


@pytest.mark.parametrize("text", [f"<script>{RUN}</script>", "\x1b[31m<b onclick=x>"])
def test_what_is_printed_or_raised_is_text(text, ours):
    printed = new_output("stream", name="stdout", text=text)
    raised = new_output("error", ename=text, evalue=text, traceback=[text])
    check(page(new_code_cell(text, outputs=[printed, raised])), ours)


def test_honest_pages_keep_what_they_show(ours):
    png = base64.b64encode(pages.IMAGES["image/png"] + b"rest").decode()
    table = "<table><thead><tr><th>a</th></tr></thead><tr><td style='color:red'>1</td></tr></table>"
    outputs = [
        new_output("display_data", data={"image/png": png}),
        new_output("display_data", data={"text/html": table}),
    ]
    shown = page(
        new_markdown_cell(
            "# Title\n\n| a | b |\n|--|--|\n| 1 | 2 |\n\n- `vector<int>`\n\n```python\nx = 1\n```\n\na < b & c"
        ),
        new_code_cell("1", outputs=outputs),
    )
    text = shown.get_text()
    assert "vector<int>" in text and "a < b & c" in text and len(shown.find_all("table")) == 2
    assert shown.find("h1").get_text().startswith("Title") and shown.find("img")["src"].startswith("data:image/png")
    assert "color:red" in shown.find("td", style=True)["style"]
    assert shown.find("span", class_="mi"), "coloured code in text"


def test_the_score_board_survives_the_cleaning():
    from autograder.measuring.report import CheckResult, Report

    row = CheckResult("speed", "Faster <b>", "partial", 1.5, 4.0, "1.2 times", "at least 1.3", message="why")
    report = Report("m", "A title", "measured", "cpu", "public", "", (row,), 1.0)
    cleaned = pages.clean_html(report._repr_html_())
    assert "1.5 of 4" in cleaned.replace("</h3>", "") and "&lt;b&gt;" in cleaned
    assert "background-color" in cleaned and "<td" in cleaned


def test_the_policy_lets_only_marked_scripts_run():
    policy = pages.policy("abc")
    assert "script-src 'nonce-abc' 'strict-dynamic'" in policy and "unsafe-inline" not in policy
    directives = {one.split()[0]: one.split()[1:] for one in policy.split("; ")}
    assert {name: value for name, value in directives.items() if name != "script-src"} == {
        "object-src": ["'none'"], "base-uri": ["'none'"], "frame-src": ["'none'"], "form-action": ["'none'"],
        "frame-ancestors": ["'self'"],
    }  # fmt: skip
    assert pages.policy("abc") != pages.policy("abd") and "form-action 'none'" in policy


def test_the_settings_hold_the_walls(monkeypatch, tmp_path):
    monkeypatch.setattr(handlers.SubmissionHandler, "guarded", False, raising=False)
    config = Config()
    nbgrader_settings.configure(config, tmp_path, [])
    assert config.Autograde.autograde_preprocessors[-1] is pages.CleanOutputs
    assert config.HTMLExporter.sanitize_html and set(config.HTMLExporter.filters) == {"markdown2html", "clean_html"}
    assert handlers.SubmissionHandler.guarded, "the server that shows submissions has loaded these handlers"
    assert handlers.SubmissionFilesHandler.set_extra_headers.__module__ == pages.__name__
