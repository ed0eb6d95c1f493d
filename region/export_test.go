package region

// MovingTables names the tables with companies' data, each with its key.
func MovingTables() map[string][]string {
	all := map[string][]string{}
	for _, t := range tables {
		if !t.stays {
			all[t.name] = t.key
		}
	}
	return all
}

// ListedTables names all tables that are listed, each with its key.
func ListedTables() map[string][]string {
	all := map[string][]string{}
	for _, t := range tables {
		all[t.name] = t.key
	}
	return all
}

// ForgetOld shortens the change log, as the pump does now and then.
var ForgetOld = (*Service).forgetOld

// Slowly answers as an operation that reads all rows does.
var Slowly = (*Service).slowly
