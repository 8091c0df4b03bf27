"""The time dial: which model, trained for how many steps, is best after so many minutes on this machine."""
