"""One verification: a model beside what it was made of, outputs and attention."""
