"""Tasks for fine-tuning: training conversations, held-out conversations, and checks of the model's answers."""
