"""What a machine has and lacks for this project. Only Python itself is needed to find out."""
