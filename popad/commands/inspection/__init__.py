"""`popad inspect`: what popad would serve of one maildrop, and why it would refuse it."""
