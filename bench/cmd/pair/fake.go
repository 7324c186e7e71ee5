package main

import (
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
)

// serveDSS serves a DSS that identifies every session cookie, each as another
// user. It is not dsstest, whose state differs between commits. It runs in this
// process, so that its work is not in the CPU time of the program.
func serveDSS() (url string, end func(), err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	server := &http.Server{Handler: http.HandlerFunc(answer), ErrorLog: log.New(io.Discard, "", 0)}
	go func() { _ = server.Serve(listener) }()
	return "http://" + listener.Addr().String(), func() { _ = server.Close() }, nil
}

func answer(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	switch {
	case strings.HasSuffix(r.URL.Path, "/auth/info-from-browser-headers"):
		var browser struct{ Cookie string }
		if err := json.NewDecoder(r.Body).Decode(&browser); err != nil {
			http.Error(w, "no headers", http.StatusBadRequest)
			return
		}
		_, session, _ := strings.Cut(browser.Cookie, "dss_session_PAIR=")
		session, _, _ = strings.Cut(session, ";")
		fmt.Fprintf(w, `{"authSource":"USER_FROM_UI","via":[],"authIdentifier":"user%s","groups":["readers","analysts","team001"],`+
			`"userProfile":"DESIGNER","associatedDSSUser":"user%s","userForImpersonation":"user%s"}`, session, session, session)
	case strings.HasSuffix(r.URL.Path, "/auth/info"): // the application's own auth info
		io.WriteString(w, `{"authSource":"PERSONAL_API_KEY","via":[],"authIdentifier":"pair","groups":["administrators"],"associatedDSSUser":"pair"}`)
	default:
		w.WriteHeader(http.StatusNotFound)
		io.WriteString(w, `{"errorType":"com.dataiku.dip.server.controllers.NotFoundException","message":"nothing here"}`)
	}
}
