"""What conversations are about: their questions and answers, those held out, and how an answer is checked."""
