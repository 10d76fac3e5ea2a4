"""The page of a survey: one HTML file with all images, from disk or from the server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pmg.html_document import render_document


def render_page(content: Mapping[str, Any], served: bool) -> str:
    """Returns the page. Texts are escaped, and its policy allows no script but its own and no other address.

    Args:
        content: see `pmg.studio.survey.materials.build_content`.
        served: whether answers are sent to the server of the page; else the page saves them as a file.
    """
    connect = "'self'" if served else "'none'"
    return render_document("pmg.studio.survey", "survey", content={**content, "served": served}, connect=connect)
