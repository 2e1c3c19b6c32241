"""Files from elsewhere: fetched once, checked against their record, kept where the user says.

Nothing here runs unless it is asked to: no other room of geovision opens a connection.
"""
