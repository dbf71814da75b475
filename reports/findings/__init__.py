"""Answers to the questions the project was made for, from results that are kept with it."""
