"""A run as a submitted job of a Ray cluster: both ends of that wire.

wanted.py connection.py upload.py submitting.py following.py    where a person submits
driver.py                                                       what the cluster runs
last_word.py                                                    what passes from the latter to the former
"""
