"""PMG: requests for images, their generation under guidance, and the selection among candidates."""
