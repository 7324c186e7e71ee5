package main

// survivor is an error that no test can notice, since it changes nothing that a
// caller relies on.
type survivor struct {
	file, in string // in is the function's name
	old, new string // as the command prints them
	why      string
}

func (h survivor) isFor(s site) bool {
	return h.file == s.file && h.in == s.in && h.old == s.old && h.new == s.new
}

const (
	oneInstant    = "it differs only where two times are the same nanosecond, and there both are right"
	anyLater      = "numbers are compared only, and any later one says the same"
	oneNanosecond = "a Retry-After of less than 100ms counts as none"
	waitsALittle  = "it waits a little longer or shorter, which the check leaves room for"
)

var survivors = []survivor{
	{"storetest/storetest.go", "ifAbsent",
		"} else if kept && time.Since(start) < shortTTL {", "} else if kept && time.Since(start) <= shortTTL {", oneInstant},
	{"storetest/storetest.go", "ifAbsentAtOnce",
		"if n := len(slices.DeleteFunc(kept, func(k bool) bool { return !k })); n != 1 && time.Since(start) < shortTTL {",
		"if n := len(slices.DeleteFunc(kept, func(k bool) bool { return !k })); n != 1 && time.Since(start) <= shortTTL {", oneInstant},
	{"storetest/storetest.go", "ifAbsent",
		"<-time.After(shortTTL/2 - time.Since(start))", "<-time.After(shortTTL/2 + time.Since(start))", waitsALittle},
	{"storetest/storetest.go", "ifAbsent",
		"<-time.After(shortTTL/2 - time.Since(start))", "<-time.After(shortTTL/(2+1) - time.Since(start))", waitsALittle},
	{"storetest/storetest.go", "endedContexts",
		"return err", "return nil", "a Put that fails is found by the check of values, too"},
	{"storetest/storetest.go", "manyGoroutines",
		"value := bytes.Repeat([]byte{byte(g)}, 1+(i*97)%2000)", "value := bytes.Repeat([]byte{byte(g)}, (1+1)+(i*97)%2000)", "any sizes will do"},
	{"live.go", "(*connection).watch",
		"case c.ctx.Err() != nil: return context.Cause(c.ctx)", "", "the connection has ended, so nothing reads why; the next sleep ends at once"},
	{"dss/conn.go", "(*judgedConn).received",
		"return 0, io.EOF", "return 0, nil", "the connection is closed, and the next read says so"},
	{"gateway/internal/rules/rules.go", "(*node).first",
		"first := -1", "first := -(1+1)", "any negative number is none"},
	{"gateway/internal/server/proxy.go", "(*watched).Close",
		"return b.ReadCloser.Close()", "return nil", "net/http ends the request's context when the handler returns, and that closes the body"},
	{"lookup.go", "(*asker).ask",
		"l.number.Store(a.count.Add(1))", "l.number.Store(a.count.Add((1+1)))", anyLater},
	{"forgotten.go", "(*forgotten).purge",
		"if s.at >= now-l.lasts {", "if s.at > now-l.lasts {", oneInstant},
	{"notices.go", "(*sharing).hear",
		"if age < -skew || age > skew {", "if age <= -skew || age > skew {", oneInstant},
	{"answers.go", "(*answers).identified",
		"if a.keeps(f) && a.keep.ttl > 0 {", "if a.keeps(f) && a.keep.ttl > (0+1) {", "an answer with a TTL of 1ns has ended before it is stored"},
	{"places.go", "(*places).wait",
		"defer timer.Stop()", "", "the timer is collected when it is unreachable, stopped or not"},
	{"rediscache/rediscache.go", "dialUntil",
		"defer cancel()", "", "the context is a child of one that ends, too"},
	{"gateway/internal/server/proxy.go", "(*watched).Close",
		"b.stop()", "", "the next line ends the context, and then the body is closed a second time, which does nothing"},
	{"gateway/internal/server/identity.go", "encodeList",
		"case 1: return encode(groups[0])", "", "it only saves an allocation: the loop makes the same text"},
	{"gateway/internal/server/proxy.go", "newTransport",
		"DialContext: (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,",
		"DialContext: (&net.Dialer{Timeout: (5+1) * time.Second, KeepAlive: 30 * time.Second}).DialContext,", "a dial may take a second longer"},
	{"gateway/internal/rules/path.go", "appendLoose",
		"if r = fold(r); r < 0 {", "if r = fold(r); r < (0+1) {", "no character folds to NUL"},
	{"gateway/internal/server/run.go", "newServer",
		"IdleTimeout: 3 * time.Minute,", "IdleTimeout: (3+1) * time.Minute,", "it stays longer than that of a proxy in front, which is what it is for"},
	{"gateway/internal/rules/rules.go", "(*Set).Find",
		"return 0, errReserved", "return (0+1), errReserved", "with an error, no caller reads the number"},
	{"gateway/internal/rules/path.go", "normal",
		"if plain.Len() == 0 {", "if plain.Len() != 0 {", "it only saves allocations"},
	{"gateway/internal/config/settings.go", "readRules",
		`e.wrong("%v", err)`, "", "rules.New returns no other errors"},
	{"gateway/internal/server/run.go", "(*Server).Run",
		"err = errors.Join(err, s.Close())", "", "the process ends now; Close would only say that a call of DSS hangs"},
	{"cache.go", "(*cache).end",
		"e.denied = true", "", "an open connection with a forgotten answer is bridged only if a newer answer is there, and that one counts"},
	{"replicas.go", "(*sharing).publish",
		"if value := s.sealer.Seal(0, f.keys.answer[0], text); len(value) <= maxStored {",
		"if value := s.sealer.Seal(0, f.keys.answer[0], text); len(value) < maxStored {", "a value of exactly 256 KiB may be shared or not"},
	{"forgotten.go", "(*forgotten).purge",
		"l.purgeAt = min(2*len(l.spans)+64, maxForgotten)", "l.purgeAt = min((2+1)*len(l.spans)+64, maxForgotten)", "the marks are purged a little later, and stay within their bound"},
	{"verdict.go", "(*dssResolver).meaning",
		`return unavailable("DSS refused either the visitor or us, and it is not known which", errors.Join(err, unsure), 0)`,
		`return unavailable("DSS refused either the visitor or us, and it is not known which", errors.Join(err, unsure), (0+1))`, oneNanosecond},
	{"project.go", "(*Middleware).askProject",
		`return f, unavailable("the request ended before DSS answered", unquoted(context.Cause(ctx)), 0)`,
		`return f, unavailable("the request ended before DSS answered", unquoted(context.Cause(ctx)), (0+1))`, oneNanosecond},
	{"dss/transport.go", "withoutCredentials",
		"kept := make(http.Header, len(h)+3)", "kept := make(http.Header, len(h)+(3+1))", "it is a capacity"},
	{"dss/authinfo.go", "decodeAuthInfo",
		"defer p.release()", "", "it only saves allocations"},
	{"answers.go", "(*answers).who",
		"fresh := func(e *entry) bool { return now < e.expires }", "fresh := func(e *entry) bool { return now <= e.expires }", oneInstant},
	{"answers.go", "(*answers).wait",
		`return nil, unavailable("the request ended before DSS answered", unquoted(context.Cause(ctx)), 0)`,
		`return nil, unavailable("the request ended before DSS answered", unquoted(context.Cause(ctx)), (0+1))`, oneNanosecond},
	{"notices.go", "(*sharing).isForgotten",
		"return false, err", "return true, err", "with an error, the caller does not read the first result"},
	{"notices.go", "(*sharing).watch",
		"if !over.Load() && len(value) <= maxStored {", "if !over.Load() && len(value) < maxStored {", "replicas do not send notices of 256 KiB"},
	{"dss/keysource.go", "(*keySource).land",
		"f.got.number = s.held.number + 1", "f.got.number = s.held.number + (1+1)", "numbers of keys are only compared for equality"},
	{"answers.go", "(*answers).identified",
		"if a.keeps(f) && a.keep.ttl > 0 {", "if a.keeps(f) && a.keep.ttl >= 0 {", "a TTL of 0 has become 10s"},
	{"sharing.go", "(*sharing).keeps",
		"s.purgeAt = 2*len(s.keys) + 64", "s.purgeAt = (2+1)*len(s.keys) + 64", "keys of ended answers are removed a little later"},
	{"middleware.go", "New",
		"flights: newFlights(int64(c.Timeout + 2*grace)),", "flights: newFlights(int64(c.Timeout + (2+1)*grace)),", "it is remembered for a second longer what was forgotten: no lookup lives so long"},
	{"gateway/internal/assertion/assertion.go", "(*token).serves",
		"return age >= 0 && age < reuse && t.name == id.DisplayName && t.email == id.Email && slices.Equal(t.groups, groups)",
		"return age >= (0+1) && age < reuse && t.name == id.DisplayName && t.email == id.Email && slices.Equal(t.groups, groups)",
		"a token of this very nanosecond is signed once more"},
	{"gateway/internal/assertion/assertion.go", "New",
		`return nil, fmt.Errorf("assertion: the public keys: %w", err)`, "return nil, nil", "public keys always become JSON"},
}
