"""Where everything is kept: SQL is written here and nowhere else, on a connection that is given.

A statement that is executed for every job or poll is a constant of its module, with its values as
parameters: to put a statement together anew takes several times as long as to execute it.
"""
