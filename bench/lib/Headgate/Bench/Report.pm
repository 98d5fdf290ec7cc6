# The report: on the screen and in build/bench/results.txt. Each row's table as soon as it is measured,
# and all ratios together at the end.
package Headgate::Bench::Report;
use v5.36;
use utf8;

use Headgate::Bench::Measure qw(fsync_ms median);
use POSIX qw(strftime);

my $LINE         = '  %-42s %-26s %s';
my $SUMMARY_LINE = '%-18s %10s %10s  %-38s %s';

sub new ($class, $path) {
    open my $file, '>', $path or die "$path: $!\n";
    binmode $_, ':encoding(UTF-8)' for $file, \*STDOUT, \*STDERR;
    $_->autoflush(1) for $file, \*STDOUT;
    return bless { file => $file, path => $path, rows => [] }, $class;
}

sub print ($self, $text = '') {
    $text =~ s/ +\z//;
    print {$_} "$text\n" for \*STDOUT, $self->{file};
    return;
}

# What is only for whoever waits.
sub progress ($self, $text) { print STDERR "  … $text\n"; return }

sub first_line ($command) { (split /\n/, `$command 2>&1` // '')[0] // '' }

# The machine and the versions; the disk below `directory`.
sub machine ($self, $directory) {
    my ($model) = first_line('grep -m1 "model name" /proc/cpuinfo') =~ /:\s*(.*)/;
    my ($load) = first_line('cat /proc/loadavg') =~ /^(\S+ \S+)/;
    $self->print(strftime('%Y-%m-%d %H:%M:%S %z', localtime) . ', ' . first_line('uname -sr'));
    $self->print(first_line('nproc') . ' x ' . ($model // 'unknown processor') . ", load before the run $load");
    my ($wrk)  = first_line('wrk -v') =~ /^(.*?) \[/;
    my ($curl) = first_line('curl --version') =~ /(libcurl\S+)/;
    $self->print(join ', ', first_line('nginx -v'), $wrk // 'no wrk', $curl // 'no curl');
    $self->print(sprintf 'store and append-only file: fsync of 4 KiB takes %.2f ms (%.2f..%.2f) on %s', fsync_ms($directory),
        first_line("df --output=source,fstype $directory | tail -n 1") =~ s/\s+/ /gr);
}

# 3 significant digits; thousands of a rate stay whole.
sub number ($value) {
    return sprintf '%.0f', $value if abs $value >= 100;
    return sprintf '%.1f', $value if abs $value >= 10;
    return sprintf '%.2f', $value;
}

sub spread (@values) {
    return '-' if !@values;
    my @sorted = sort { $a <=> $b } @values;
    return sprintf '%s (%s..%s)', map { number($_) } median(@values), $sorted[0], $sorted[-1];
}

# A row: title, against, conditions (lines of text), lines ([key, label], …; the first one is the figure that
# is compared), ratio ('theirs/ours' or 'ours/theirs'), at_least, ours and theirs (lists of hashes, by pair);
# or `skipped`: why it could not be measured.
sub row ($self, %row) {
    my ($ours, $theirs) = @row{qw(ours theirs)};
    $self->print('');
    $self->print($row{title});
    $self->print("  against $row{against}");
    if (defined $row{skipped}) {
        $self->print("  skipped: $row{skipped}");
        push $self->{rows}->@*, [$row{name}, '-', '-', $row{lines}[0][1], 'skipped'];
        return;
    }
    $self->print("  $_") for $row{conditions}->@*;
    $self->print(sprintf $LINE, @$ours . ' pairs: median (least..most)', 'ours', 'theirs');
    for my $line ($row{lines}->@*) {
        my ($key, $label) = @$line;
        my @sides = map { spread(map { $_->{$key} // () } @$_) } $ours, $theirs;
        $self->print(sprintf $LINE, $label, @sides);
    }
    my ($key, $label) = $row{lines}[0]->@*;
    my ($above, $below) = $row{ratio} eq 'theirs/ours' ? ($theirs, $ours) : ($ours, $theirs);
    my @ratios  = map { $above->[$_]{$key} / $below->[$_]{$key} } 0 .. $#$ours;
    my $verdict = sprintf '%s, at least %s: %s', spread(@ratios), $row{at_least},
        median(@ratios) >= $row{at_least} ? 'reached' : 'missed';
    $self->print(sprintf $LINE, "ratio $row{ratio} of the first line", $verdict, '');
    my @medians = map { number(median(map { $_->{$key} } @$_)) } $ours, $theirs;
    push $self->{rows}->@*, [$row{name}, @medians, $label, $verdict];
}

sub summary ($self) {
    $self->print('');
    $self->print(sprintf $SUMMARY_LINE, 'row', 'ours', 'theirs', 'of', 'ratio');
    $self->print(sprintf $SUMMARY_LINE, @$_) for $self->{rows}->@*;
}

1;
