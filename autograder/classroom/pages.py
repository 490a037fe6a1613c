"""A learner's notebook as a page: in formgrader, on the instructor's own Jupyter server, nothing of it may run.

Three walls, one behind the other. Outputs keep only types that cannot run, HTML among them cleaned, in the graded
notebook itself (`CleanOutputs`, the last step of grading). Markdown is cleaned after it was turned into HTML
(`SAFE_EXPORT`), since what it turns into cannot be seen before. And a browser is told to run only formgrader's own
scripts (`guard_formgrader`).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
from functools import cache

import bleach
from bleach.css_sanitizer import ALLOWED_CSS_PROPERTIES, CSSSanitizer
from jinja2 import pass_context
from jinja2.ext import Extension
from nbconvert.exporters import HTMLExporter
from nbgrader.preprocessors import NbGraderPreprocessor
from pygments.token import STANDARD_TYPES

IMAGES = {"image/png": b"\x89PNG\r\n\x1a\n", "image/jpeg": b"\xff\xd8\xff"}
"""MIME type -> how such a file begins."""
TAGS = frozenset(bleach.ALLOWED_TAGS) | frozenset(
    "br caption col colgroup dd del details div dl dt h1 h2 h3 h4 h5 h6 hr img ins kbd p pre s samp small span sub "
    "summary sup table tbody td tfoot th thead tr u".split()
)
_STYLES = frozenset(ALLOWED_CSS_PROPERTIES) | frozenset(
    "border border-bottom border-left border-radius border-right border-top display max-width opacity table-layout".split()
)  # no position and no margin: with them a learner's box could cover formgrader's own words and buttons
_CODE_COLOURS = frozenset(filter(None, STANDARD_TYPES.values())) | {"highlight"}


def clean_html(html: str | bytes) -> str:
    """HTML that shows and does nothing: no scripts, no forms, no frames, no address but http(s), mailto and data images.

    Classes go too, for formgrader's own scripts listen to some; those of coloured code stay.
    """
    text = html.decode("utf-8", "replace") if isinstance(html, bytes) else str(html)
    return bleach.clean(
        text,
        tags=TAGS,
        attributes=_allowed,
        protocols={"http", "https", "mailto", "data"},
        css_sanitizer=CSSSanitizer(allowed_css_properties=_STYLES),
    )


def _allowed(tag: str, name: str, value: str) -> bool:
    if name == "class":
        return set(value.split()) <= _CODE_COLOURS
    if name == "href":
        # nothing relative: formgrader serves a learner's other files below the page's own address
        return tag == "a" and value.strip().lower().startswith(("http://", "https://", "mailto:", "#"))
    if name == "src":  # a picture from elsewhere would tell its owner who looks, and when
        return tag == "img" and value.startswith(tuple(f"data:{kind};base64," for kind in IMAGES))
    return name in ("style", "title", "alt", "width", "height", "align", "colspan", "rowspan", "start", "open", "role")


VERSION = "1"
"""Of the cleaning: pages that were made by another one are out of date."""


def clean_outputs(notebook) -> None:
    """Keep of all outputs what a browser or JupyterLab only shows: text, PNG and JPEG pictures, cleaned HTML."""
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if "data" not in output:
                continue
            output.metadata.clear()
            for kind, value in list(output.data.items()):
                if kind == "text/html":
                    output.data[kind] = clean_html(_joined(value))
                elif kind in IMAGES:
                    if not _is_image(kind, _joined(value)):
                        del output.data[kind]
                elif kind != "text/plain":
                    del output.data[kind]
            if not output.data:
                output.data["text/plain"] = "(An output of a type that pages of this course do not show.)"


def _joined(value) -> str:
    return "".join(map(str, value)) if isinstance(value, list) else str(value)


def _is_image(kind: str, text: str) -> bool:
    try:
        return base64.b64decode(text, validate=False).startswith(IMAGES[kind])
    except (binascii.Error, ValueError):
        return False


class CleanOutputs(NbGraderPreprocessor):
    """A late step of grading: the outputs of the notebook, made safe to show (`clean_outputs`)."""

    def preprocess(self, nb, resources):
        clean_outputs(nb)
        return nb, resources


class OnlyErrorsCount(NbGraderPreprocessor):
    """Before marks are made: what a test cell wrote to stderr becomes ordinary output.

    nbgrader gives no points to a cell with anything on stderr, and libraries write warnings there (ONNX Runtime and
    TensorRT past Python, on file descriptor 2). An answer is wrong if its test raises.
    """

    def preprocess(self, nb, resources):
        for cell in nb.cells:
            if cell.metadata.get("nbgrader", {}).get("grade"):
                for output in cell.get("outputs", ()):
                    if output.output_type == "stream":
                        output.name = "stdout"
        return nb, resources


@pass_context
def markdown_to_html(context, source: str) -> str:
    """nbconvert's own filter, its result cleaned."""
    return clean_html(_exporter().markdown2html(context, source))


@cache
def _exporter() -> HTMLExporter:
    return HTMLExporter()


SAFE_EXPORT = {
    "sanitize_html": True,
    "filters": {
        "markdown2html": "autograder.classroom.pages.markdown_to_html",
        "clean_html": "autograder.classroom.pages.clean_html",
    },
}
"""Settings of nbconvert's HTMLExporter, which formgrader and `nbgrader generate_feedback` use."""


class _Nonces(Extension):
    """Marks the scripts of templates, as they are read from nbgrader's files: nothing that a notebook holds is one."""

    def preprocess(self, source, name, filename=None):
        return source.replace("<script", '<script nonce="{{ csp_nonce() }}"')


def mark_scripts(exporter: HTMLExporter, nonce: str) -> None:
    """Let the scripts of the next page's templates carry `nonce`."""
    environment = exporter.environment
    if _Nonces.identifier not in environment.extensions:
        environment.add_extension(_Nonces)
        # a function, since a macro that was read for one page is used again for the next
        environment.globals["csp_nonce"] = lambda: environment.course_nonce
    environment.course_nonce = nonce


_ON_CLICK = ("toggle_name(true);", "toggle_name(false);")
"""formgrader's own inline handlers, by their text."""


def policy(nonce: str) -> str:
    """The Content-Security-Policy of a page with a submission (W3C, CSP level 3: nonces and strict-dynamic)."""
    clicks = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(words.encode()).digest()).decode()}'" for words in _ON_CLICK
    )
    return (
        f"script-src 'nonce-{nonce}' 'strict-dynamic' 'unsafe-hashes' {clicks}; "
        "object-src 'none'; base-uri 'none'; frame-src 'none'; form-action 'none'; frame-ancestors 'self'"
    )


FILES_POLICY = "sandbox; default-src 'none'; img-src 'self'"
"""Of what else was handed in, an HTML or SVG file among it: it has no scripts and no origin."""


def guard_formgrader() -> None:
    """Let formgrader send `policy` with each page that shows a submission, and hand over a submission's other files as
    downloads that run nothing. Does nothing where it is done already."""
    from nbgrader.server_extensions.formgrader.handlers import SubmissionFilesHandler, SubmissionHandler

    if getattr(SubmissionHandler, "guarded", False):
        return
    get = SubmissionHandler.get

    class Guarded:
        """The exporter, for one page: with a nonce of its own."""

        def __init__(self, exporter: HTMLExporter, nonce: str):
            self.exporter, self.nonce = exporter, nonce

        def from_filename(self, filename: str, resources: dict):
            mark_scripts(self.exporter, self.nonce)
            return self.exporter.from_filename(filename, resources=resources)

    def guarded_get(self, submission_id):
        self.nonce = secrets.token_urlsafe(16)
        self.set_header("Content-Security-Policy", policy(self.nonce))
        return get(self, submission_id)

    SubmissionHandler.get = guarded_get
    SubmissionHandler.exporter = property(lambda self: Guarded(self.settings["nbgrader_exporter"], self.nonce))
    SubmissionHandler.guarded = True

    def set_extra_headers(self, path):
        self.set_header("Content-Security-Policy", FILES_POLICY)
        self.set_header("X-Content-Type-Options", "nosniff")
        if not path.lower().endswith((".png", ".jpg", ".jpeg")):
            self.set_header("Content-Disposition", "attachment")

    SubmissionFilesHandler.set_extra_headers = set_extra_headers
