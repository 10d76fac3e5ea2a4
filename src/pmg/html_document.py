"""Pages of one file: a template with the script and the style beside it, and their digests for its policy."""

from __future__ import annotations

import base64
from hashlib import sha256
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def render_document(package: str, name: str, **values: Any) -> str:
    """Returns the page of a template `name` in the folder ``page`` of a package, with ``NAME.js`` and ``NAME.css``.

    Texts are escaped. Beside `values`, the template gets ``script``, ``style``, ``script_digest`` and
    ``style_digest``, which its policy can name.
    """
    loader = PackageLoader(package, "page")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.policies["json.dumps_kwargs"] = {}  # keys keep their order
    script, style = (loader.get_source(environment, f"{name}.{ending}")[0] for ending in ("js", "css"))
    return environment.get_template(f"{name}.html").render(
        script=Markup(script),
        style=Markup(style),
        script_digest=_digest(script),
        style_digest=_digest(style),
        **values,
    )


def _digest(text: str) -> str:
    return base64.b64encode(sha256(text.encode()).digest()).decode()
