"""Verb 1: labelled images become prepared arrays, checked and split."""
