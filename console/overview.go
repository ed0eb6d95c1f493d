package console

// overviewPage shows how an environment is doing.
var overviewPage = page{
	template: "overview",
	live:     []string{"overview"},
	load: func(q *request) (shown, error) {
		o, err := q.client.Overview(q.ctx())
		if err != nil {
			return shown{}, err
		}
		return shown{title: "Overview", nav: "overview", data: &o}, nil
	},
}
