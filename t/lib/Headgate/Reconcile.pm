# Accounts for a run of the corpus: what the publisher was answered 201 for (its own file), what is in
# the store, what the receiver got and verified (its own file), joined by event id.
package Headgate::Reconcile;
use v5.36;

use Digest::SHA qw(sha256_hex);
use JSON::PP ();
use Test::More import => [qw(diag explain is is_deeply)];

# Starts the receiver and registers it as a webhook for github.*.
sub new ($class, $t, $sidecar) {
    my $self = bless {
        t => $t, sidecar => $sidecar, clients => $t->root . '/t/clients', sent => $t->path('sent.jsonl'), received => $t->path('received.jsonl'),
    }, $class;
    my $port   = $t->port;
    my $secret = $t->path('receiver.secret');
    $self->{receiver} = $t->start(
        name => 'receiver', command => ['node', "$self->{clients}/receive.mjs", '--port', $port, '--secret-file', $secret, '--out', $self->{received}],
    );
    $t->wait_for_port($port, $self->{receiver});
    my $webhook = $sidecar->run_json('webhook', 'create', '--org', $sidecar->org, '--url', "http://127.0.0.1:$port/hook", '--events', 'github.*');
    $t->write_file('receiver.secret', $webhook->{secret});
    return $self;
}

# A publisher under way; finish_publisher() gives its summary. Options: url; until (a file that ends it),
# pause_ms, bytes_max (of a payload), concurrency.
sub start_publisher ($self, %args) {
    my @options = $args{until} ? ('--until', $args{until}, '--retry') : ();
    push @options, map { ('--' . s/_/-/r, $args{$_}) } grep { $args{$_} } qw(pause_ms bytes_max concurrency);
    return $self->{t}->start(
        name => 'publisher', command => [
            'node', "$self->{clients}/publish.mjs", '--url', $args{url}, '--key', $self->{sidecar}->api_key, '--out', $self->{sent}, @options,
        ],
    );
}

sub finish_publisher ($self, $publisher, $seconds = 180) {
    $publisher->wait($seconds) or $self->{t}->die_with_logs('the publisher does not end');
    $self->{t}->die_with_logs('the publisher failed: ' . $publisher->describe_exit) if $publisher->status != 0;
    my ($json) = $publisher->log_text =~ /^(\{.*\})$/m;
    return JSON::PP::decode_json($json);
}

sub publish ($self, %args) { $self->finish_publisher($self->start_publisher(%args)) }

sub lines ($self, $path) {
    open my $file, '<:raw', $path or return ();
    return map { JSON::PP::decode_json($_) } grep { /\n\z/ } <$file>;
}
# Only what has been added since the last time is read.
sub count_lines ($self, $path) {
    open my $file, '<:raw', $path or return 0;
    my $seen = $self->{seen}{$path} //= { bytes => 0, lines => 0 };
    seek $file, $seen->{bytes}, 0;
    while (read $file, my $part, 1 << 20) {
        $seen->{bytes} += length $part;
        $seen->{lines} += $part =~ tr/\n//;
    }
    return $seen->{lines};
}
sub accepted_count ($self) { $self->count_lines($self->{sent}) }
sub received_count ($self) { $self->count_lines($self->{received}) }

sub wait_until_delivered ($self, $seconds) {
    my %missing = map { $_->{id} => 1 } $self->lines($self->{sent});
    open my $file, '<:raw', $self->{received} or die "$self->{received}: $!";
    $self->{t}->wait_for(
        'every event answered 201 to reach the receiver',
        sub {
            # Only what has been added, and only whole lines.
            my $at = tell $file;
            seek $file, $at, 0;
            while (my $line = <$file>) {
                if ($line !~ /\n\z/) { seek $file, $at, 0; last }
                $at = tell $file;
                delete $missing{$1} if $line =~ /\A\{"id":"([0-9a-f-]+)"/;
            }
            return !%missing;
        },
        $seconds
    );
}

# ---- a run under load, while something happens to Redis -------------------------------------------

# Publishes through this nginx until settle().
sub start_load ($self, $front) {
    $self->{enough} = $self->{t}->path('enough');
    $self->{load}   = $self->start_publisher(url => 'http://127.0.0.1:' . $front->port . '/events', until => $self->{enough}, concurrency => 3);
}

# Until more has been answered 201, and more has arrived.
sub progress ($self, $what) {
    my ($accepted, $received) = ($self->accepted_count, $self->received_count);
    $self->{t}->wait_for("progress $what", sub { $self->accepted_count >= $accepted + 40 && $self->received_count >= $received + 20 }, 60);
}

# Ends the load and accounts for it, as tests of the caller: returns the account.
sub settle ($self) {
    $self->{t}->write_file($self->{enough}, '');
    my $summary = $self->finish_publisher($self->{load});
    is_deeply [grep { !/\A(?:201|503)\z/ } keys $summary->{statuses}->%*], [], 'the edge answered 201 or 503, nothing else' or diag explain $summary;
    $self->{sidecar}->wait_until_healthy(30);
    $self->wait_until_delivered(60);
    my $account = $self->account;
    is $account->{persisted_once}, $summary->{accepted}, 'every 201 is in the store exactly once, byte for byte';
    is_deeply $account->{wrong}, [], 'none is missing, doubled or altered';
    is $account->{delivered}, $summary->{accepted}, 'every 201 was delivered';
    diag $self->report($account);
    return $account;
}

# One digest over a set of events: their ids and digests, sorted.
sub digest_of ($events) { sha256_hex(join "\n", map { "$_ $events->{$_}" } sort keys %$events) }

sub account ($self) {
    my %sent = map { $_->{id} => $_ } $self->lines($self->{sent});
    my (%rows, %stored, %received, @wrong);
    my ($received, $verified, $duplicates) = (0, 0, 0);

    my ($first_at, $longest_ms) = ({}, 0);
    $self->{sidecar}->each_event(
        sub ($id, $type, $source, $payload) {
            return if !$sent{$id};
            $rows{$id}++;
            $stored{$id} = sha256_hex($payload);
            push @wrong, "$id: type or source" if $type ne $sent{$id}{type} || $source ne 'github';
        }
    );
    for my $line ($self->lines($self->{received})) {
        $received++;
        my $good = $line->{standard} && $line->{hmac} && $line->{spliced} && $line->{id} eq $line->{envelope_id} && $line->{type} eq $line->{event};
        $verified++ if $good;
        my $event = $sent{ $line->{id} } or next;    # stored, though its 201 was lost on the way
        $duplicates++ if exists $received{ $line->{id} };
        $received{ $line->{id} } = $line->{sha256};
        $first_at->{ $line->{id} } //= $line->{at_ms};
        push @wrong, "$line->{id}: delivered with other bytes" if $line->{sha256} ne $event->{sha256};
    }
    for my $id (sort keys %sent) {
        push @wrong, "$id: in the store " . ($rows{$id} // 0) . ' times' if ($rows{$id} // 0) != 1;
        push @wrong, "$id: stored with other bytes" if defined $stored{$id} && $stored{$id} ne $sent{$id}{sha256};
        push @wrong, "$id: never delivered" if !$received{$id};
        my $waited_ms = ($first_at->{$id} // 0) - $sent{$id}{at_ms};
        $longest_ms = $waited_ms if $waited_ms > $longest_ms;
    }
    return {
        accepted => scalar(keys %sent), bytes => eval { my $sum = 0; $sum += $_->{bytes} for values %sent; $sum },
        persisted_once => scalar(grep { $rows{$_} == 1 && $stored{$_} eq $sent{$_}{sha256} } keys %rows),
        longest_wait_ms => $longest_ms,
        received => $received, verified => $verified, delivered => scalar(keys %received), duplicates => $duplicates,
        sent_digest => digest_of({ map { $_ => $sent{$_}{sha256} } keys %sent }),
        stored_digest => digest_of(\%stored), received_digest => digest_of(\%received), wrong => [splice @wrong, 0, 20],
    };
}

sub report ($self, $account) {
    return join "\n", 'reconciled by event id:',
        "  answered 201      $account->{accepted} events, $account->{bytes} payload bytes, digest " . substr($account->{sent_digest}, 0, 16),
        "  in the store once $account->{persisted_once}, digest " . substr($account->{stored_digest}, 0, 16),
        "  delivered         $account->{delivered} in $account->{received} deliveries ($account->{duplicates} duplicates, same id), digest "
        . substr($account->{received_digest}, 0, 16),
        "  verified          $account->{verified} of $account->{received}, by standardwebhooks and node:crypto",
        sprintf('  longest wait      %.1f s from the 201 to the receiver', $account->{longest_wait_ms} / 1000),
        '  lost              ' . ($account->{accepted} - $account->{persisted_once});
}

1;
