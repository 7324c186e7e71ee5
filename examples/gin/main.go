// Gin gates routes by DSS group with gin.
//
// Without a DSS, start both of these, and sign in at
// http://127.0.0.1:11200/?redirect=http://127.0.0.1:8080/me:
//
//	go run ./dsstest/cmd/fakedss -addr 127.0.0.1:11200 -admin-key dev
//	DKU_DSS_URL=http://127.0.0.1:11200 DKU_API_KEY=dev go run ./examples/gin
package main

import (
	"flag"
	"log"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
)

func newRouter(auth *dssauth.Middleware) http.Handler {
	r := gin.New()
	r.Use(gin.Recovery(), wrap(auth.Handler)) // signed-in DSS users only, on every route
	r.GET("/me", me)
	r.GET("/report", wrap(auth.RequireGroup("analysts")), report)
	admin := r.Group("/admin", wrap(auth.RequireGroup("administrators")))
	admin.GET("/users/:login", user)
	return r
}

// wrap makes a gin middleware from one for net/http.
func wrap(middleware func(http.Handler) http.Handler) gin.HandlerFunc {
	return func(c *gin.Context) {
		admitted := false
		middleware(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			admitted = true
			c.Request = r // carries the identity
			c.Next()
		})).ServeHTTP(c.Writer, c.Request)
		if !admitted {
			c.Abort() // otherwise gin calls the handler, too
		}
	}
}

// The identity is in the request's context; gin's own context has it only
// with Engine.ContextWithFallback.
func me(c *gin.Context) {
	id, ok := dssauth.FromContext(c.Request.Context())
	if !ok { // only where the middleware did not run
		c.AbortWithStatus(http.StatusInternalServerError)
		return
	}
	c.JSON(http.StatusOK, id)
}

func report(c *gin.Context) {
	id, ok := dssauth.FromContext(c.Request.Context())
	if !ok { // only where the middleware did not run
		c.AbortWithStatus(http.StatusInternalServerError)
		return
	}
	c.String(http.StatusOK, "the report, for %s\n", id.Login)
}

func user(c *gin.Context) {
	id, ok := dssauth.FromContext(c.Request.Context())
	if !ok { // only where the middleware did not run
		c.AbortWithStatus(http.StatusInternalServerError)
		return
	}
	c.String(http.StatusOK, "user %s, shown to %s\n", c.Param("login"), id.Login)
}

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "where to listen")
	flag.Parse()
	client, err := dss.FromEnv()
	if err != nil {
		log.Fatal(err)
	}
	auth, err := dssauth.New(dssauth.Config{Client: client})
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Addr: *addr, Handler: newRouter(auth), ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.ListenAndServe())
}
