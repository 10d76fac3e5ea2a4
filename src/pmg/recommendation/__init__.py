"""Recommenders beside personalised pictures: does a picture made for a user help to foresee what they take next?"""
