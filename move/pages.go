package move

import "context"

// pageReader reads pages of the source, and the next one already while the destination writes the
// last: the two needn't wait for one another. It holds no more than that one page. The
// destination says which page it wants, and where that is another than the one that was read
// ahead, it is read then.
type pageReader struct {
	side *side
	most int
	end  map[string]string // by table; what comes behind it is in the change log

	table, after string // of the page that is read ahead
	next         chan pageRead
	stop         context.CancelFunc
}

type pageRead struct {
	page rowPage
	err  error
}

// ahead begins to read a page.
func (p *pageReader) ahead(ctx context.Context, table, after string) {
	p.close()
	ctx, p.stop = context.WithCancel(ctx)
	next, until := make(chan pageRead, 1), p.end[table]
	p.table, p.after, p.next = table, after, next
	go func() {
		page, err := p.side.rows(ctx, table, after, until, p.most)
		next <- pageRead{page, err}
	}()
}

// read answers the page of a table after a key.
func (p *pageReader) read(ctx context.Context, table, after string) (rowPage, error) {
	if p.next == nil || p.table != table || p.after != after {
		p.ahead(ctx, table, after)
	}
	read := <-p.next
	p.next = nil
	p.close()
	if read.err == nil && p.end[table] == "" {
		p.end[table] = read.page.End
	}
	return read.page, read.err
}

// close gives up what is read ahead, and waits for the end of it.
func (p *pageReader) close() {
	if p.stop == nil {
		return
	}
	p.stop()
	p.stop = nil
	if p.next != nil {
		<-p.next
		p.next = nil
	}
}
