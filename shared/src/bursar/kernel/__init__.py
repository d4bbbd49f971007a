"""The journaled decider: what makes a service's decisions durable, fenced and replayable. For services only."""
