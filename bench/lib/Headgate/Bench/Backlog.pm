# The backlog rows: what an event costs when very many, or very large ones, have waited, and the sidecar's memory
# meanwhile. The same drain as row `deliver`, once with 10,000 events of 1 KiB and once with the backlog.
package Headgate::Bench::Backlog;
use v5.36;
use utf8;

use Exporter qw(import);

use Headgate::Bench::Drain;
use Headgate::Bench::Events qw(write_events);
use Headgate::Bench::Redis;

our @EXPORT_OK = qw(backlog_row);

my ($BASE_EVENTS, $BASE_BYTES) = (10_000, 1024);
my $MEMORY_MAX_MIB = 256;

# events, bytes (of each), unit (`event` or `KiB`: of what the cost is compared).
sub backlog_row (%args) {
    my ($events, $bytes, $unit) = @args{qw(events bytes unit)};
    die "not a positive whole number of events: $events\n" if $events !~ /\A[1-9][0-9]*\z/;
    my $size = sub ($count) { $count >= 1024 ? $count / 1024 . ' KiB' : "$count bytes" };
    return {
        title    => "a backlog of $events events of " . $size->($bytes) . ": µs of the sidecar per $unit",
        against  => "$BASE_EVENTS events of " . $size->($BASE_BYTES),
        ratio    => 'theirs/ours',
        at_least => 0.87,    # within 15 %
        lines    => [
            [cost_us  => "µs of the sidecar per $unit"],
            [redis_us => 'µs of Redis per event'],
            [rate     => 'deliveries per second'],
            [peak_mib => "the sidecar's peak memory, MiB ($MEMORY_MAX_MIB allowed)"],
        ],
        run => sub ($t, $options, $say) {
            my $redis    = Headgate::Bench::Redis->start($t);
            my $receiver = Headgate::Bench::Drain::start_receiver($t, body_buffer => '512k');
            my %payloads = map { $_ => (write_events($t, bytes => $_, name => "of-$_"))[1] } $BASE_BYTES, $bytes;
            my $drain = Headgate::Bench::Drain->prepare($t, redis => $redis, receiver => $receiver, payloads_file => $payloads{$BASE_BYTES});
            my $run = sub ($count, $each) {
                $say->("$count events of $each bytes");
                my $result = $drain->run($count, payloads_file => $payloads{$each}, seconds_max => 3600);
                return { %$result, cost_us => $result->{drain_us} / ($unit eq 'event' ? 1 : $each / 1024) };
            };
            my $theirs = $run->($BASE_EVENTS, $BASE_BYTES);
            my $ours   = $run->($events, $bytes);
            return {
                ours       => [$ours],
                theirs     => [$theirs],
                conditions => [
                    sprintf('peak memory %.0f of %d MiB: %s', $ours->{peak_mib}, $MEMORY_MAX_MIB, $ours->{peak_mib} <= $MEMORY_MAX_MIB ? 'kept' : 'exceeded'),
                    'in 8 streams beforehand; drained, persisted, signed, delivered over loopback, recorded; one webhook, 16 requests in flight',
                    'SQLite WAL, events synced when committed (FULL), results within 100 ms; processor time from the first read, without the start of the process; measured once',
                    $redis->describe,
                ],
            };
        },
    };
}

1;
