"""Times that a text names: `yesterday`, `in March`, `上周五`, made windows on the calendar. Knows no memory."""
