"""Pages of one file: a template with the script and the style beside it, and their digests for its policy."""

from __future__ import annotations

import base64
from hashlib import sha256
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def render_document(package: str, name: str, base: str | None = None, **values: Any) -> str:
    """Returns the page of a template `name` in the folder ``page`` of a package, with ``NAME.js`` and ``NAME.css``.

    A package `base` has templates that the page includes, and ``common.js``, which is put before the script.
    Texts are escaped. Beside `values`, the template gets ``script``, ``style``, ``script_digest`` and
    ``style_digest``, which its policy can name.
    """
    loader = ChoiceLoader([PackageLoader(each, "page") for each in (package, base) if each])
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.policies["json.dumps_kwargs"] = {}  # keys keep their order
    files = [*(["common.js"] if base else []), f"{name}.js", f"{name}.css"]
    *scripts, style = (loader.get_source(environment, file)[0] for file in files)
    script = "".join(scripts)
    return environment.get_template(f"{name}.html").render(
        script=Markup(script), style=Markup(style), script_digest=_digest(script), style_digest=_digest(style),
        **values,
    )  # fmt: skip


def _digest(text: str) -> str:
    return base64.b64encode(sha256(text.encode()).digest()).decode()
