"""The Python API, `PersonalizedPipeline`, and the folders that it is exported to and loaded from."""
