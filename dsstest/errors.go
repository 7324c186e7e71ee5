package dsstest

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// failure is an error answer, in DSS's shape.
type failure struct {
	status   int
	nobody   bool   // the visitor is anonymous, and nothing else is wrong
	Type     string `json:"errorType"`
	Message  string `json:"message"`
	Detailed string `json:"detailedMessage,omitempty"`
}

func notAuthenticated(message string) *failure {
	return &failure{status: http.StatusUnauthorized, Type: "com.dataiku.dip.exceptions.NotAuthenticatedException", Message: message}
}

func unauthorized(message string) *failure {
	return &failure{status: http.StatusForbidden, Type: "com.dataiku.dip.exceptions.UnauthorizedException", Message: message}
}

func notFound(detailed string) *failure {
	return &failure{status: http.StatusNotFound, Type: "com.dataiku.dip.server.controllers.NotFoundException", Message: "not found", Detailed: detailed}
}

func badRequest(message string) *failure {
	return &failure{status: http.StatusBadRequest, Type: "java.lang.IllegalArgumentException", Message: message}
}

var noUser = unauthorized("an API key without a user has no settings of its own")

var usersRestricted = unauthorized("reading users needs an administrator's rights")

func (f *failure) write(w http.ResponseWriter) { writeJSON(w, f.status, f) }

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		panic("dsstest: " + err.Error())
	}
	w.Header().Set("Content-Type", "application/json;charset=utf-8")
	w.WriteHeader(status)
	w.Write(body)
}

func writeHTML(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/html;charset=utf-8")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<html><head><title>%[1]d %[2]s</title></head><body><h1>%[2]s</h1></body></html>\n", status, text)
}
