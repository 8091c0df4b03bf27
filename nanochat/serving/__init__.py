"""Chat with a trained model in the terminal, in the browser, and over an OpenAI-compatible HTTP API."""
