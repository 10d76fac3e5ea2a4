"""What an item looks like, in words, for the history's text."""

from __future__ import annotations

from pmg.domain import Item, PmgError


class MetadataCaptioner:
    """Describes an item from the facts that its source knows; no image is looked at.

    Args:
        template: format string over the names of facts, e.g. ``"{pack}, {colour}"``.
    """

    def __init__(self, template: str) -> None:
        self.template = template

    def __call__(self, item: Item) -> str:
        """Returns the phrase.

        Raises:
            PmgError: the item lacks a fact that the template names.
        """
        try:
            return self.template.format_map(item.facts)
        except KeyError as error:
            known = ", ".join(item.facts) or "none"
            raise PmgError(
                f"item '{item.id}' has no fact {error} for the caption '{self.template}' (it has: {known})"
            ) from None
