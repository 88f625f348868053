"""Judging: metrics, statistics, backfill and experiments against their promises."""
