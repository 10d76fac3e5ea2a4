"""What tests of looks share."""

SHARES = {
    "palette": {"as_drawn": 1, "turned": 1, "duotone": 1, "grey": 1},
    "ground": {"white": 1, "tint": 1, "dark": 1},
    "outline": {"none": 1, "contrast": 1, "coloured": 1},
    "surface": {"flat": 1, "halftone": 1, "pixels": 1, "paper": 1},
}
