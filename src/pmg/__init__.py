"""PMG: personalised multimodal generation with large language models."""

__version__ = "0.1.0"
