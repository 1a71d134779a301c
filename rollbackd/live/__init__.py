"""The daemon's moving parts: events to the engine, its outcomes to the ledger, and decisions to the targets."""
