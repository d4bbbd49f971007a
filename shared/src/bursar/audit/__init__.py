"""The audit log: who was given what, refused what by policy, and who has overridden it; so that changes of it show."""
