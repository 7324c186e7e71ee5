package storetest_test

import (
	"context"
	"testing"

	"github.com/dssauth/dssauth"
	"github.com/dssauth/dssauth/storetest"
)

func ExampleRun() {
	// In a test file, as TestStore.
	_ = func(t *testing.T) {
		server := t.TempDir() // started once, so that all stores see the same data
		storetest.Run(t, func(t *testing.T) dssauth.Store {
			store := openStore(server)
			t.Cleanup(store.Close)
			return store
		})
	}
}

// myStore is the store under test.
type myStore struct{ server string }

func openStore(server string) *myStore { return &myStore{server} }

func (*myStore) Get(context.Context, string) ([]byte, error)             { return nil, nil }
func (*myStore) Put(context.Context, dssauth.StoreEntry) (bool, error)   { return false, nil }
func (*myStore) Delete(context.Context, string) error                    { return nil }
func (*myStore) Watch(context.Context, func(), func(value []byte)) error { return nil }
func (*myStore) Close()                                                  {}
