package rediscache

import (
	"testing"
	"time"

	"github.com/redis/rueidis"
	"github.com/stretchr/testify/assert"
)

func TestOptionsKeepWhatIsSet(t *testing.T) {
	var zero rueidis.ClientOption
	o := withDefaults(zero)
	assert.Equal(t, 2*time.Second, o.Dialer.Timeout)
	assert.Equal(t, time.Second, o.Dialer.KeepAlive)
	assert.Equal(t, 2*time.Second, o.Sentinel.Dialer.Timeout)
	assert.Equal(t, time.Second, o.Sentinel.Dialer.KeepAlive)
	assert.Equal(t, 2*time.Second, o.ConnWriteTimeout)
	assert.Equal(t, 5*time.Second, o.Sentinel.TopologyRefreshInterval)
	assert.Equal(t, 5*time.Second, o.ClusterOption.ShardsRefreshInterval)
	assert.Equal(t, -1, o.PipelineMultiplex)
	assert.True(t, o.DisableCache)
	assert.True(t, o.DisableRetry)
	assert.Equal(t, rueidis.DisableClientSetInfo, o.ClientSetInfo)

	set := zero
	set.InitAddress = []string{"127.0.0.1:6379"}
	set.Dialer.Timeout, set.Dialer.KeepAlive = 1, 2
	set.Sentinel.Dialer.Timeout, set.Sentinel.Dialer.KeepAlive = 3, 4
	set.ConnWriteTimeout, set.Sentinel.TopologyRefreshInterval, set.ClusterOption.ShardsRefreshInterval = 5, 6, 7
	set.PipelineMultiplex = 2
	set.ClientSetInfo = []string{"dashboards", "1"}
	o = withDefaults(set)
	assert.True(t, o.DisableCache)
	assert.True(t, o.DisableRetry)
	o.DisableCache, o.DisableRetry = false, false
	assert.Equal(t, set, o)
	o.InitAddress[0] = "another" // as ShuffleInit does
	assert.Equal(t, "127.0.0.1:6379", set.InitAddress[0])
}

func TestClosedStoreStartsNothing(t *testing.T) {
	s := &Store{closed: true}
	assert.Equal(t, errClosed, s.start(func() { t.Error("was run") }))
	s.running.Wait()
}
