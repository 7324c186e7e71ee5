//go:build unix

// Command redis compares two clients of Redis, and rediscache, which uses the
// first: reads per second of a real redis-server on loopback, and how long a call
// with a deadline of 50 ms takes while that server is stopped.
//
//	go run ./cmd/redis
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"strings"
	"sync"
	"syscall"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/bench"
	"github.com/dssauth/dssauth/rediscache"
)

var (
	rounds  = flag.Int("rounds", 5, "how often each is measured, in turn")
	length  = flag.Duration("time", time.Second, "how long each is measured")
	readers = []int{1, 8, 64, 256}
)

// key has a value of the size of a sealed answer.
const key, valueSize = "key", 400

// get reads the value, as one client does.
type get func(ctx context.Context) (size int, err error)

type contender struct {
	name string
	open func(address string) (get, func(), error)
}

var contenders = []contender{
	{"go-redis v9.23.0, one connection", openGoRedis(1)},
	{"go-redis v9.23.0, its pool", openGoRedis(0)},
	{"rueidis v1.0.79, one connection", openRueidis(rueidis.ClientOption{PipelineMultiplex: -1})},
	{"rueidis v1.0.79, one connection, AlwaysPipelining", openRueidis(rueidis.ClientOption{PipelineMultiplex: -1, AlwaysPipelining: true})},
	{"rueidis v1.0.79, its connections", openRueidis(rueidis.ClientOption{})},
	{"rediscache", openStore},
}

func main() {
	log.SetFlags(0)
	flag.Parse()
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	started := time.Now()
	server, err := bench.StartRedis("")
	if err != nil {
		return err
	}
	defer server.Kill()
	if err := fill(server.Address); err != nil {
		return err
	}
	rates, work := map[string][]bench.Sample{}, map[string][]bench.Sample{}
	for range *rounds {
		for _, c := range contenders {
			if rates[c.name] == nil {
				rates[c.name], work[c.name] = make([]bench.Sample, len(readers)), make([]bench.Sample, len(readers))
			}
			read, closeIt, err := c.open(server.Address)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			for i, n := range readers {
				rate, cpu, err := measure(read, n)
				if err != nil {
					return fmt.Errorf("%s: %w", c.name, err)
				}
				rates[c.name][i] = append(rates[c.name][i], rate)
				work[c.name][i] = append(work[c.name][i], cpu)
			}
			closeIt()
		}
	}
	fmt.Print("# redis\n\nThousands of reads per second, times those of go-redis with its pool, and microseconds of this process' CPU time for one.\n\n| |")
	for _, n := range readers {
		fmt.Printf(" %d at once |", n)
	}
	fmt.Println("\n| --- |" + strings.Repeat(" --- |", len(readers)))
	for _, c := range contenders {
		fmt.Printf("| %s |", c.name)
		for i := range readers {
			ratio := rates[c.name][i].Ratio(rates[contenders[1].name][i])
			fmt.Printf(" %.1f, %s, %.1f µs |", rates[c.name][i].Median()/1000, ratio.Spread(), work[c.name][i].Median())
		}
		fmt.Println()
	}
	fmt.Print("\nThe longest of 40 calls with a deadline of 50 ms, one at a time, while the server is stopped.\n\n| | ms |\n| --- | --- |\n")
	for _, c := range contenders {
		longest, err := stopped(server, c)
		if err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		fmt.Printf("| %s | %.1f |\n", c.name, float64(longest.Microseconds())/1000)
	}
	fmt.Printf("\n%s · %d rounds of %v in %v · `go run ./cmd/redis -rounds %d -time %v`\n", bench.Machine(), *rounds, *length, time.Since(started).Round(time.Second), *rounds, *length)
	return nil
}

// fill gives the value to all contenders.
func fill(address string) error {
	client := goredis.NewClient(&goredis.Options{Addr: address})
	defer client.Close()
	for _, k := range []string{key, "dssauth:" + key} {
		if err := client.Set(context.Background(), k, strings.Repeat("v", valueSize), 0).Err(); err != nil {
			return err
		}
	}
	return nil
}

// measure returns reads per second, and microseconds of CPU time for one. Each
// read has a deadline.
func measure(read get, n int) (rate, cpu float64, err error) {
	counts, errs := make([]int, n), make([]error, n)
	before := bench.CPUTime()
	start := time.Now()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			for time.Since(start) < *length {
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
				size, err := read(ctx)
				cancel()
				if err != nil || size != valueSize {
					errs[i] = fmt.Errorf("%d bytes: %w", size, err)
					return
				}
				counts[i]++
			}
		})
	}
	wg.Wait()
	total := 0
	for _, c := range counts {
		total += c
	}
	rate = float64(total) / time.Since(start).Seconds()
	return rate, float64((bench.CPUTime() - before).Microseconds()) / float64(total), errors.Join(errs...)
}

func stopped(server *bench.Redis, c contender) (longest time.Duration, err error) {
	read, closeIt, err := c.open(server.Address)
	if err != nil {
		return 0, err
	}
	if _, err := read(context.Background()); err != nil {
		return 0, err
	}
	if err := server.Process.Signal(syscall.SIGSTOP); err != nil {
		return 0, err
	}
	for range 40 {
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		start := time.Now()
		_, err := read(ctx)
		longest = max(longest, time.Since(start))
		cancel()
		if err == nil {
			return 0, errors.New("a stopped server answered")
		}
	}
	err = server.Process.Signal(syscall.SIGCONT)
	closeIt()
	return longest, err
}

func openGoRedis(connections int) func(string) (get, func(), error) {
	return func(address string) (get, func(), error) {
		// Without ContextTimeoutEnabled it ignores deadlines.
		client := goredis.NewClient(&goredis.Options{Addr: address, PoolSize: connections, ContextTimeoutEnabled: true, MaxRetries: -1, PoolTimeout: 10 * time.Second})
		return func(ctx context.Context) (int, error) {
			value, err := client.Get(ctx, key).Bytes()
			return len(value), err
		}, func() { _ = client.Close() }, nil
	}
}

func openRueidis(option rueidis.ClientOption) func(string) (get, func(), error) {
	return func(address string) (get, func(), error) {
		option.InitAddress = []string{address}
		option.DisableCache, option.DisableRetry, option.ForceSingleClient = true, true, true
		client, err := rueidis.NewClient(option)
		if err != nil {
			return nil, nil, err
		}
		return func(ctx context.Context) (int, error) {
			value, err := client.Do(ctx, client.B().Get().Key(key).Build()).AsBytes()
			return len(value), err
		}, client.Close, nil
	}
}

func openStore(address string) (get, func(), error) {
	store, err := rediscache.New(rueidis.ClientOption{InitAddress: []string{address}})
	if err != nil {
		return nil, nil, err
	}
	var s dssauth.Store = store
	return func(ctx context.Context) (int, error) {
		value, err := s.Get(ctx, key)
		return len(value), err
	}, store.Close, nil
}
