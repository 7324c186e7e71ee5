package rediscache_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/redis/rueidis"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/dss"
	"github.com/dssauth/dssauth/rediscache"
)

// All replicas have the same secret. README has three of these lines.
func Example() {
	client, err := dss.FromEnv()
	if err != nil {
		log.Fatal(err)
	}
	secret, err := base64.StdEncoding.DecodeString(os.Getenv("DSSAUTH_STORE_SECRETS"))
	if err != nil {
		log.Fatal("DSSAUTH_STORE_SECRETS is not base64") // the error would quote it
	}
	store, err := rediscache.New(rueidis.ClientOption{InitAddress: []string{"redis.example:6379"}}) // also succeeds while Redis is down
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	auth, err := dssauth.New(dssauth.Config{Client: client, Store: store, StoreSecrets: [][]byte{secret}})
	if err != nil {
		log.Panic(err)
	}
	_ = auth.Close()
}

func ExampleNew() {
	// New succeeds while the server is out.
	store, err := rediscache.New(rueidis.ClientOption{
		InitAddress: []string{"127.0.0.1:1"},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err = store.Get(ctx, "key")
	fmt.Println(err)
	// Output: rediscache: 127.0.0.1:1: not connected: dial tcp 127.0.0.1:1: connect: connection refused
}

// One server with TLS and a user of its own.
func ExampleNew_tls() {
	_, _ = rediscache.New(rueidis.ClientOption{
		InitAddress: []string{"redis.example:6379"},
		TLSConfig:   &tls.Config{},
		Username:    "dssauth",
		Password:    os.Getenv("REDIS_PASSWORD"),
	})
}

// Some nodes of a cluster; the others are found.
func ExampleNew_cluster() {
	_, _ = rediscache.New(rueidis.ClientOption{
		InitAddress: []string{"redis-0.example:6379", "redis-1.example:6379"},
	})
}

// The addresses are those of the sentinels.
func ExampleNew_sentinel() {
	_, _ = rediscache.New(rueidis.ClientOption{
		InitAddress: []string{"sentinel-0.example:26379", "sentinel-1.example:26379"},
		Sentinel:    rueidis.SentinelOption{MasterSet: "main"},
	})
}

// A URL that holds all settings.
func ExampleNew_url() {
	option, err := rueidis.ParseURL(os.Getenv("REDIS_URL")) // rediss://dssauth:PASSWORD@redis.example:6379
	if err != nil {
		log.Fatal("REDIS_URL is not one of Redis") // The error repeats the URL, and with it the password.
	}
	_, _ = rediscache.New(option)
}

func ExampleStore_Close() {
	store, err := rediscache.New(rueidis.ClientOption{InitAddress: []string{"127.0.0.1:6379"}})
	if err != nil {
		log.Fatal(err)
	}
	// Close the store after the Middleware that uses it.
	defer store.Close()
}
