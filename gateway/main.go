// Gateway stands in front of an application that is not written in Go, so that it
// knows its DSS user, too. See docs/not-go.md.
//
//	gateway -config gateway.yaml
//	gateway -config gateway.yaml -check-config
//
// DSS is found as [github.com/dssauth/dssauth/dss.FromEnv] finds it. Each setting
// can stand in the file, in a variable, or be a flag: -help lists them.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/gateway/internal/config"
	"github.com/dssauth/dssauth/gateway/internal/server"
)

func main() {
	ctx, stop := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		signal.Stop(signals) // before anybody sees that it stops: a second signal ends the process at once
		stop()
	}()
	os.Exit(run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}

// run returns the exit code: 2 for settings that are wrong, 1 for all else.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	c, command, err := config.Load(args, environ)
	switch {
	case err != nil:
		fmt.Fprintln(stderr, err)
		return 2
	case command.Help:
		config.Help(stdout)
		return 0
	case command.Version:
		fmt.Fprintln(stdout, version())
		return 0
	}
	for _, w := range command.Warnings {
		fmt.Fprintln(stderr, "warning:", w)
	}
	client, err := dss.FromEnv()
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 2
	}
	if err := server.Check(c, client, slog.New(slog.DiscardHandler)); err != nil {
		fmt.Fprintln(stderr, err)
		return 2
	}
	if os.Getenv("GOGC") == "" {
		// What lives is small, and what a request leaves behind is not: at Go's 100 a
		// tenth of the time would go into collecting it.
		debug.SetGCPercent(400)
	}
	lines := server.NewLines(stdout)
	defer lines.Flush()
	log := slog.New(slog.NewJSONHandler(lines, nil))
	if command.Check {
		fmt.Fprintln(stdout, "the configuration is fine")
		return 0
	}
	if err := server.Run(ctx, c, client, log); err != nil {
		log.Error("ended", "error", err)
		return 1
	}
	return 0
}

func version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return "unknown"
}
