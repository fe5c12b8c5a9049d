"""What the page of a report shows before it tells: gauges, answers, panels."""
