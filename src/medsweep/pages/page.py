"""Templates to text: self-contained HTML pages in the common frame, and markdown. The same facts, the same bytes."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

# Between markdown's own marks and a text that happens to hold them.
# MLflow shows pages as sandboxed blobs, in which Chromium follows no link within the page: there, and only there, jump.
# The page's policy names this script by its digest and allows no other.
_JUMP = """
document.addEventListener("click", (event) => {
  const link = event.target.closest('a[href^="#"]');
  const target = link && document.getElementById(link.hash.slice(1));
  if (target && location.protocol === "blob:") {
    event.preventDefault();
    target.tabIndex = -1;
    target.focus();
    target.scrollIntoView();
  }
});
"""
_LONG = 20
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~])")


def render_page(package: str, name: str, context: Mapping[str, Any]) -> str:
    """An HTML page from a template that extends `page.html`.

    Args:
        package: of the template: its `templates` folder is searched before the common one.
        name: of the template.
        context: what it shows; all text in it is escaped. The frame needs `synthetic`.
    """
    from markupsafe import Markup

    digest = base64.b64encode(hashlib.sha256(_JUMP.encode()).digest()).decode()
    frame = {"jump": Markup(_JUMP), "jump_digest": f"sha256-{digest}"}
    return str(_environment(package, html=True).get_template(name).render({**context, **frame}))


def render_markdown(package: str, name: str, context: Mapping[str, Any]) -> str:
    """A markdown file from a template, ending in one newline; text that is not ours passes the filter `plain`."""
    text = str(_environment(package, html=False).get_template(name).render(context))
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def data_url(content: bytes, kind: str) -> str:
    """A picture inside the page: `kind` is svg+xml, png or jpeg."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def plain(text: object) -> str:
    """Text as markdown shows it literally, on one line."""
    return _MARKDOWN.sub(r"\\\1", " ".join(str(text).split()))


def cell(value: object) -> str:
    """A table's cell in words: three decimals, thousands apart, a dash for nothing."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}".replace(",", "\u202f")
    if isinstance(value, float):
        if value != 0 and not 0.001 <= abs(value) < 10_000:
            return f"{value:.3g}"
        return f"{value:.3f}"
    return str(value)


def column_classes(rows: Sequence[Sequence[object]]) -> list[str]:
    """How each column of a table is set: '' for numbers, to the right, and 'words' where a cell is one, to the left."""
    return ["words" if any(_is_words(each) for each in column) else "" for column in zip(*rows, strict=True)]


def cell_class(value: object, column: str) -> str:
    """The column's class, and 'long' for words that need several lines."""
    long = _is_words(value) and len(str(value)) > _LONG
    return f"{column} long".strip() if long else column


def _is_words(value: object) -> bool:
    return isinstance(value, str) and value[:1].isalpha()


def count(number: int, one: str, many: str | None = None) -> str:
    """'1 image', '12 images'."""
    return f"{cell(number)} {one if number == 1 else many or f'{one}s'}"


@cache
def _environment(package: str, *, html: bool) -> Any:
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("medsweep.pages")]),
        autoescape=html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "cell": cell,
        "cell_class": cell_class,
        "column_classes": column_classes,
        "count": count,
        "plain": plain,
    }
    return environment
