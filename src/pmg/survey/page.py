"""The page of a survey: one HTML file with all images, from disk or from the server."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def render_page(content: Mapping[str, Any], served: bool) -> str:
    """Returns the page. Texts are escaped, and its policy allows no script but its own and no other address.

    Args:
        content: see `pmg.survey.materials.build_content`.
        served: whether answers are sent to the server of the page; else the page saves them as a file.
    """
    loader = PackageLoader("pmg.survey", "page")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    environment.policies["json.dumps_kwargs"] = {}  # keys keep their order
    script, style = (loader.get_source(environment, f"survey.{ending}")[0] for ending in ("js", "css"))
    digests = [base64.b64encode(sha256(text.encode()).digest()).decode() for text in (script, style)]
    return environment.get_template("survey.html").render(
        content={**content, "served": served}, connect="'self'" if served else "'none'",
        script=Markup(script), style=Markup(style), script_digest=digests[0], style_digest=digests[1],
    )  # fmt: skip
