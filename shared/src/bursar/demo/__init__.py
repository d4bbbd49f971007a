"""The main job, shown: a fleet of agents replays a real trace against a strict provider, with Bursar and without.

``provider`` is the judge; everything else here is the experiment around it: the trace and the plan made from it, the
two fleets with the workers of one, a probe of the services, the faults, and the report of what the judge and the agents
wrote down.
"""
