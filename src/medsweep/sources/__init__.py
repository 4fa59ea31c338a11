"""What there is: each kind of source turns it into ImageRecords. `catalog` lists the kinds."""
