"""What the evidence for an answer says, reckoned: statistics, comparisons, rankings, where SE pays."""
