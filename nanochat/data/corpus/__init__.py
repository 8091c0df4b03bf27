"""Where documents come from: files, the Hugging Face hub, and the documentation installed with Python."""
