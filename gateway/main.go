// Gateway stands in front of an application that is not written in Go, and tells
// it which DSS user sent a request. See docs/not-go.md.
//
//	gateway -config gateway.yaml
//	gateway -config gateway.yaml -check-config
//
// It finds DSS as [github.com/dssauth/dssauth/dss.FromEnv] does. Each setting can
// be given in the file, as a variable or as a flag: -help lists them.
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
		signal.Stop(signals) // first: from here on a second signal ends the process at once
		stop()
	}()
	os.Exit(run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}

// run returns the exit code: 2 for wrong settings, 1 for any other error.
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
	if os.Getenv("GOGC") == "" {
		// The heap is small, but each request leaves much garbage. At Go's default of
		// 100, collecting it would take a tenth of the time.
		debug.SetGCPercent(400)
	}
	lines := server.NewLines(stdout)
	defer lines.Flush()
	log := slog.New(slog.NewJSONHandler(lines, nil))
	gateway, err := server.New(c, client, log)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 2
	}
	if command.Check {
		if err := gateway.Close(); err != nil {
			fmt.Fprintln(stderr, err)
			return 1
		}
		fmt.Fprintln(stdout, "the configuration is fine")
		return 0
	}
	if err := gateway.Run(ctx); err != nil {
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
